// The AWS Encryption SDK for JavaScript: messages for two keys, and for
// multi-Region keys.
const assert = require('node:assert/strict')
const kms = require('@aws-sdk/client-kms')
const sdk = require('@aws-crypto/client-node')

const { encrypt, decrypt } = sdk.buildClient(sdk.CommitmentPolicy.REQUIRE_ENCRYPT_REQUIRE_DECRYPT)
const client = new kms.KMSClient()
const plaintext = Buffer.from('a long message '.repeat(1000))
const encryptionContext = { stage: 'demo', purpose: 'simple demonstration app' }

async function opens (keyring, result) {
  const got = await decrypt(keyring, result)
  assert.deepEqual(got.plaintext, plaintext)
  for (const [name, value] of Object.entries(encryptionContext)) assert.equal(got.messageHeader.encryptionContext[name], value)
}

async function create (options) {
  const { KeyMetadata: { Arn } } = await client.send(new kms.CreateKeyCommand(options ?? {}))
  return Arn
}

// Either key alone opens the message; a third one does not, nor does a key that
// is disabled.
async function twoKeys () {
  const [first, second, third] = [await create(), await create(), await create()]
  const keyring = new sdk.KmsKeyringNode({ generatorKeyId: first, keyIds: [second] })
  const { result } = await encrypt(keyring, plaintext, { encryptionContext })
  await opens(keyring, result)
  await opens(new sdk.KmsKeyringNode({ keyIds: [first] }), result)
  await opens(new sdk.KmsKeyringNode({ keyIds: [second] }), result)
  await assert.rejects(decrypt(new sdk.KmsKeyringNode({ keyIds: [third] }), result))

  await client.send(new kms.DisableKeyCommand({ KeyId: first }))
  await assert.rejects(decrypt(new sdk.KmsKeyringNode({ keyIds: [first] }), result), /DisabledException|is disabled/)
  await opens(keyring, result)
  await opens(new sdk.KmsKeyringNode({ discovery: true }), result)
  await client.send(new kms.DisableKeyCommand({ KeyId: second }))
  await assert.rejects(decrypt(keyring, result), /DisabledException|is disabled/)
}

// What the primary key encrypted, its replica opens in the other Region, by its
// own ARN or found by the key id alone.
async function multiRegion () {
  const primary = await create({ MultiRegion: true })
  const europe = 'eu-west-1'
  const { ReplicaKeyMetadata: { Arn: replica } } = await client.send(new kms.ReplicateKeyCommand({ KeyId: primary, ReplicaRegion: europe }))
  const strict = generatorKeyId => sdk.buildAwsKmsMrkAwareStrictMultiKeyringNode({ generatorKeyId })
  const discovery = accountIDs => sdk.buildAwsKmsMrkAwareDiscoveryMultiKeyringNode({ regions: [europe], discoveryFilter: { accountIDs, partition: 'aws' } })

  const { result } = await encrypt(strict(primary), plaintext, { encryptionContext })
  await opens(strict(primary), result)
  await opens(strict(replica), result)
  await opens(discovery(['111122223333']), result)
  await assert.rejects(decrypt(discovery(['444455556666']), result))

  // And back: the primary key opens what only the replica has seen.
  await client.send(new kms.DisableKeyCommand({ KeyId: primary }))
  const { result: theirs } = await encrypt(strict(replica), plaintext, { encryptionContext })
  await assert.rejects(decrypt(strict(primary), theirs), /DisabledException|is disabled/)
  await opens(strict(replica), theirs)
  await client.send(new kms.EnableKeyCommand({ KeyId: primary }))
  await opens(strict(primary), theirs)
}

(async () => { await twoKeys(); await multiRegion() })()
