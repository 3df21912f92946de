// The AWS SDK for JavaScript, version 3, through the life of a few keys.
const assert = require('node:assert/strict')
const crypto = require('node:crypto')
const kms = require('@aws-sdk/client-kms')

const client = new kms.KMSClient() // endpoint, Region and credentials come from the environment
const text = s => new TextEncoder().encode(s)
const is = name => error => error.name === name && error instanceof kms.KMSServiceException

async function symmetric () {
  const { KeyMetadata: { KeyId, Arn } } = await client.send(new kms.CreateKeyCommand({ Tags: [{ TagKey: 'for', TagValue: 'sdk' }] }))
  const EncryptionContext = { tenant: 'blue' }
  const { CiphertextBlob } = await client.send(new kms.EncryptCommand({ KeyId, Plaintext: text('hello'), EncryptionContext }))
  const opened = await client.send(new kms.DecryptCommand({ CiphertextBlob, EncryptionContext }))
  assert.equal(Buffer.from(opened.Plaintext).toString(), 'hello')
  assert.equal(opened.KeyId, Arn)
  await assert.rejects(client.send(new kms.DecryptCommand({ CiphertextBlob })), is('InvalidCiphertextException'))

  const data = await client.send(new kms.GenerateDataKeyCommand({ KeyId, KeySpec: 'AES_256', EncryptionContext }))
  const again = await client.send(new kms.DecryptCommand({ CiphertextBlob: data.CiphertextBlob, EncryptionContext }))
  assert.deepEqual(again.Plaintext, data.Plaintext)
  assert.equal(data.Plaintext.length, 32)

  const { KeyMetadata: other } = await client.send(new kms.CreateKeyCommand({}))
  const moved = await client.send(new kms.ReEncryptCommand({
    CiphertextBlob, SourceEncryptionContext: EncryptionContext, DestinationKeyId: other.Arn, DestinationEncryptionContext: { tenant: 'red' }
  }))
  assert.equal(moved.SourceKeyId, Arn)
  const reopened = await client.send(new kms.DecryptCommand({ CiphertextBlob: moved.CiphertextBlob, EncryptionContext: { tenant: 'red' } }))
  assert.equal(Buffer.from(reopened.Plaintext).toString(), 'hello')

  await client.send(new kms.DisableKeyCommand({ KeyId }))
  await assert.rejects(client.send(new kms.DecryptCommand({ CiphertextBlob, EncryptionContext })), is('DisabledException'))
  await assert.rejects(client.send(new kms.DescribeKeyCommand({ KeyId: 'alias/nowhere' })), is('NotFoundException'))
}

// Node verifies what KMS signs.
async function sign () {
  for (const [KeySpec, SigningAlgorithm, hash, options] of [
    ['RSA_2048', 'RSASSA_PSS_SHA_256', 'sha256', { padding: crypto.constants.RSA_PKCS1_PSS_PADDING, saltLength: 32 }],
    ['ECC_NIST_P384', 'ECDSA_SHA_384', 'sha384', {}],
    ['ECC_NIST_EDWARDS25519', 'ED25519_SHA_512', null, {}]
  ]) {
    const { KeyMetadata: { KeyId } } = await client.send(new kms.CreateKeyCommand({ KeySpec, KeyUsage: 'SIGN_VERIFY' }))
    const { Signature } = await client.send(new kms.SignCommand({ KeyId, SigningAlgorithm, Message: text('message') }))
    const { PublicKey } = await client.send(new kms.GetPublicKeyCommand({ KeyId }))
    const key = crypto.createPublicKey({ key: Buffer.from(PublicKey), format: 'der', type: 'spki' })
    assert.ok(crypto.verify(hash, 'message', { key, ...options }, Signature), KeySpec)
    assert.ok(!crypto.verify(hash, 'another', { key, ...options }, Signature), KeySpec)
  }
}

// The paginators of the SDK see each key, alias and grant once.
async function pages () {
  const { KeyMetadata: { KeyId } } = await client.send(new kms.CreateKeyCommand({}))
  const names = [1, 2, 3, 4, 5].map(i => `alias/javascript-${i}`)
  for (const AliasName of names) await client.send(new kms.CreateAliasCommand({ AliasName, TargetKeyId: KeyId }))
  const seen = []
  for await (const page of kms.paginateListAliases({ client, pageSize: 2 }, { KeyId })) {
    assert.ok(page.Aliases.length <= 2)
    seen.push(...page.Aliases.map(alias => alias.AliasName))
  }
  assert.deepEqual(seen.sort(), names)
  let found = 0
  for await (const page of kms.paginateListKeys({ client, pageSize: 3 }, {})) found += page.Keys.filter(key => key.KeyId === KeyId).length
  assert.equal(found, 1)
}

(async () => { await symmetric(); await sign(); await pages() })()
