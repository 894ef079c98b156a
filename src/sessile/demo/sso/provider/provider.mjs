// The provider of the demo: settings as JSON in the first argument, one JSON line for each thing that happens.
// Any name signs in, with any password; the pages are the provider's own.
import { generateKeyPairSync, randomBytes } from 'node:crypto'
import { createServer } from 'node:http'
import { Provider } from 'oidc-provider'

const { host, port, clients } = JSON.parse(process.argv[2])
console.log = console.info = console.warn = (...parts) => process.stderr.write(parts.join(' ') + '\n')
const said = (line) => process.stdout.write(JSON.stringify(line) + '\n')

let listener
const server = createServer((request, response) => listener(request, response))
await new Promise((resolve, reject) => server.once('error', reject).listen(port, host, resolve))
const issuer = `http://${host}:${server.address().port}`

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 })
const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: [randomBytes(24).toString('hex')] },
  features: {
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
  },
  // The applications are on the loopback, where the provider calls nobody by itself.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  async loadExistingGrant(ctx) {
    const { client, session } = ctx.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope('openid')
    await grant.save()
    return grant
  },
})
provider.on('grant.success', (ctx) => said({ what: 'code', client: ctx.oidc.client.clientId }))
provider.on('end_session.success', () => said({ what: 'ended' }))
provider.on('backchannel.success', (_, client) => said({ what: 'told', client: client.clientId, well: true }))
provider.on('backchannel.error', (_, error, client) =>
  said({ what: 'told', client: client.clientId, well: false, why: error.message }))
listener = provider.callback()
said({ what: 'ready', issuer })
process.stdin.on('end', () => process.exit()).resume()
