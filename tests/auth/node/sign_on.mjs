// A provider for single sign-on: settings as JSON in the first argument, the first line of output says that it is ready.
// Anybody's name signs in, with any password; the pages are the provider's own.
import { createServer } from 'node:http'
import * as jose from 'jose'
import { Provider } from 'oidc-provider'

const { host, clients } = JSON.parse(process.argv[2])
console.log = console.info = console.warn = (...parts) => process.stderr.write(parts.join(' ') + '\n')

let listener
const server = createServer((request, response) => listener(request, response))
await new Promise((resolve) => server.listen(0, host, resolve))
const issuer = `http://${host}:${server.address().port}`
const said = (line) => process.stdout.write(JSON.stringify(line) + '\n')

const { privateKey } = await jose.generateKeyPair('RS256', { extractable: true })
const provider = new Provider(issuer, {
  clients,
  jwks: { keys: [{ ...(await jose.exportJWK(privateKey)), use: 'sig', alg: 'RS256' }] },
  cookies: { keys: ['tests'] },
  features: {
    devInteractions: { enabled: true },
    rpInitiatedLogout: { enabled: true },
    backchannelLogout: { enabled: true },
  },
  // Every application is on the loopback, where the provider calls nobody by itself.
  fetch: (url, { dispatcher, ...options }) => globalThis.fetch(url, options),
  findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
  async loadExistingGrant(ctx) {
    const { client, session } = ctx.oidc
    const grant = new provider.Grant({ clientId: client.clientId, accountId: session.accountId })
    grant.addOIDCScope('openid offline_access')
    await grant.save()
    return grant
  },
})
for (const event of ['backchannel.success', 'backchannel.error']) {
  provider.on(event, (...about) => {
    const [error, client, sub, sid] = event.endsWith('error') ? about.slice(1) : [null, ...about.slice(1)]
    said({ event, client: client.clientId, sub, sid, error: error?.message ?? null })
  })
}
listener = provider.callback()
said({ issuer })
