// Answers decision questions, one JSON line each, with the engine of
// @cloud-copilot/iam-simulate, for make differential. The package is installed
// outside of the repository and run from there; only its core entry keeps all
// condition keys, and it is not exported by name.
import { createInterface } from 'node:readline'
import { createRequire } from 'node:module'
import { pathToFileURL } from 'node:url'

const require = createRequire(process.cwd() + '/')
const { loadPolicy } = require('@cloud-copilot/iam-policy')
const entry = pathToFileURL(require.resolve('@cloud-copilot/iam-simulate'))
const part = (path) => import(new URL(path, entry).href)
const { authorize } = await part('./core_engine/CoreSimulatorEngine.js')
const { AwsRequestImpl } = await part('./request/request.js')
const { RequestContextImpl } = await part('./requestContext.js')
const { DiscoveryContextKeyConstraints } = await part('./context_keys/discoveryContextKeyConstraints.js')

const everything = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Action: '*', Resource: '*' }] }
const everybody = { Version: '2012-10-17', Statement: [{ Effect: 'Allow', Principal: '*', Action: '*', Resource: '*' }] }
const load = (documents, name) => (documents ?? []).map((d, i) => loadPolicy(d, { name: name + i }))
const merged = (documents) =>
  documents?.length ? loadPolicy({ Version: '2012-10-17', Statement: documents.flatMap((d) => d.Statement) }, { name: 'session' }) : undefined

function answer(q) {
  return authorize({
    request: new AwsRequestImpl(q.principal, { resource: q.resource, accountId: q.account }, q.action, new RequestContextImpl(q.context)),
    identityPolicies: load(q.principal.endsWith(':root') ? [everything] : q.identity, 'identity'), // it knows no root user
    sessionPolicy: merged(q.session),
    permissionBoundaries: q.boundary ? load([q.boundary], 'boundary') : undefined,
    serviceControlPolicies: (q.scps ?? []).map((level, i) => ({ orgIdentifier: 'level' + i, policies: load(level, 'scp') })),
    resourceControlPolicies: [{ orgIdentifier: 'root', policies: load([everybody, ...(q.rcps ?? [])], 'rcp') }],
    resourcePolicy: loadPolicy(q.key, { name: 'key' }),
    simulationParameters: { simulationMode: 'Strict', discoveryContextKeyConstraints: new DiscoveryContextKeyConstraints([]) },
  }).result
}

for await (const line of createInterface({ input: process.stdin })) {
  let result
  try {
    result = answer(JSON.parse(line))
  } catch (error) {
    result = 'Error: ' + error.message
  }
  process.stdout.write(result + '\n')
}
