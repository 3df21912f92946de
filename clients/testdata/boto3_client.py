"""boto3 through what scripts in Python do with KMS. The endpoint is the argument."""
import sys

import boto3
from botocore.exceptions import ClientError

endpoint = sys.argv[1]


def client(service, region="us-east-1", **credentials):
    return boto3.client(service, endpoint_url=endpoint, region_name=region, **credentials)


def refused(code, call, **arguments):
    try:
        call(**arguments)
    except ClientError as e:
        assert e.response["Error"]["Code"] == code, e
        return e
    raise AssertionError(f"succeeded, want {code}")


kms = client("kms")
key = kms.create_key(Description="from Python", Tags=[{"TagKey": "team", "TagValue": "blue"}])["KeyMetadata"]
arn = key["Arn"]
assert key["KeyState"] == "Enabled" and key["CreationDate"].tzinfo, key
context = {"tenant": "blü"}

# Envelope encryption.
data = kms.generate_data_key(KeyId=arn, KeySpec="AES_256", EncryptionContext=context)
assert len(data["Plaintext"]) == 32
assert kms.decrypt(CiphertextBlob=data["CiphertextBlob"], EncryptionContext=context)["Plaintext"] == data["Plaintext"]
refused("InvalidCiphertextException", kms.decrypt, CiphertextBlob=data["CiphertextBlob"])
blind = kms.generate_data_key_without_plaintext(KeyId=arn, NumberOfBytes=17)
assert "Plaintext" not in blind and len(kms.decrypt(CiphertextBlob=blind["CiphertextBlob"])["Plaintext"]) == 17
assert len(kms.generate_random(NumberOfBytes=1024)["Plaintext"]) == 1024

# Modelled exceptions are classes of the client.
try:
    kms.describe_key(KeyId="alias/none")
    raise AssertionError("an alias that does not exist")
except kms.exceptions.NotFoundException as e:
    assert e.response["ResponseMetadata"]["HTTPStatusCode"] == 400, e.response
refused("ValidationException", kms.encrypt, KeyId=arn, Plaintext=b"x" * 4097)

# Paginators. Other versions of boto3 leave names of their own.
name = "python-" + boto3.__version__.replace(".", "-")
for i in range(7):
    kms.create_alias(AliasName=f"alias/{name}/{i}", TargetKeyId=arn)
pages = list(kms.get_paginator("list_aliases").paginate(KeyId=arn, PaginationConfig={"PageSize": 3}))
assert [len(page["Aliases"]) for page in pages] == [3, 3, 1], pages
assert kms.list_resource_tags(KeyId=arn)["Tags"] == [{"TagKey": "team", "TagValue": "blue"}]

# A user that may do nothing is let in by a grant, until it is revoked.
iam = client("iam")
iam.create_user(UserName=name)
secret = iam.create_access_key(UserName=name)["AccessKey"]
theirs = client("kms", aws_access_key_id=secret["AccessKeyId"], aws_secret_access_key=secret["SecretAccessKey"])
me = client("sts", aws_access_key_id=secret["AccessKeyId"], aws_secret_access_key=secret["SecretAccessKey"]).get_caller_identity()["Arn"]
assert me == f"arn:aws:iam::111122223333:user/{name}", me
sealed = data["CiphertextBlob"]
e = refused("AccessDeniedException", theirs.decrypt, CiphertextBlob=sealed, EncryptionContext=context)
assert me in str(e), e
grant = kms.create_grant(
    KeyId=arn, GranteePrincipal=me, Operations=["Decrypt"], Constraints={"EncryptionContextSubset": {"tenant": "blü"}}
)
assert theirs.decrypt(CiphertextBlob=sealed, EncryptionContext=context)["Plaintext"] == data["Plaintext"]
refused("AccessDeniedException", theirs.encrypt, KeyId=arn, Plaintext=b"x", EncryptionContext=context)
assert [g["GrantId"] for g in kms.list_grants(KeyId=arn)["Grants"]] == [grant["GrantId"]]
kms.revoke_grant(KeyId=arn, GrantId=grant["GrantId"])
refused("AccessDeniedException", theirs.decrypt, CiphertextBlob=sealed, EncryptionContext=context)

# Signatures and MACs.
signer = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]
assert signer["SigningAlgorithms"] == ["ECDSA_SHA_256"], signer
signature = kms.sign(KeyId=signer["KeyId"], Message=b"m", SigningAlgorithm="ECDSA_SHA_256")["Signature"]
verify = dict(KeyId=signer["KeyId"], Signature=signature, SigningAlgorithm="ECDSA_SHA_256")
assert kms.verify(Message=b"m", **verify)["SignatureValid"]
refused("KMSInvalidSignatureException", kms.verify, Message=b"n", **verify)
refused("InvalidKeyUsageException", kms.encrypt, KeyId=signer["KeyId"], Plaintext=b"x", EncryptionAlgorithm="RSAES_OAEP_SHA_256")

# Regions, deletion and its cancellation.
refused("NotFoundException", client("kms", "eu-west-1").describe_key, KeyId=key["KeyId"])
when = kms.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
assert when["KeyState"] == "PendingDeletion" and when["DeletionDate"] > key["CreationDate"], when
refused("KMSInvalidStateException", kms.encrypt, KeyId=arn, Plaintext=b"x")
kms.cancel_key_deletion(KeyId=arn)
assert kms.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"
refused("DisabledException", kms.encrypt, KeyId=arn, Plaintext=b"x")
