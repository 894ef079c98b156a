// A certified OAuth client, oauth4webapi: it is told an issuer and nothing else, and does what clients and APIs do.
import { createInterface } from 'node:readline'
import * as oauth from 'oauth4webapi'

const { issuer, resource, audience, secret } = JSON.parse(process.argv[2])
const plain = { [oauth.allowInsecureRequests]: true }
const lines = createInterface({ input: process.stdin })[Symbol.asyncIterator]()
const told = async () => JSON.parse((await lines.next()).value)
const tell = (content) => process.stdout.write(JSON.stringify(content) + '\n')

const server = await oauth.processDiscoveryResponse(
  new URL(issuer), await oauth.discoveryRequest(new URL(issuer), { algorithm: 'oauth2', ...plain }))
const app = { client_id: 'app' }
const api = { client_id: 'api' }
const DPoP = oauth.DPoP(app, await oauth.generateKeyPair('ES256'))
tell({ jkt: await DPoP.calculateThumbprint(), nonced: 0 })

async function refreshed(token, options) {
  let asked = 0
  for (;;) {
    try {
      asked += 1
      const reply = await oauth.refreshTokenGrantRequest(server, app, oauth.None(), token, { ...options, ...plain })
      return { ...await oauth.processRefreshTokenResponse(server, app, reply), asked }
    } catch (error) {
      if (asked > 1 || !oauth.isDPoPNonceError(error)) return { error: error.error ?? String(error), asked }
    }
  }
}

async function used(token, options) {
  try {
    const reply = await oauth.protectedResourceRequest(token, 'GET', new URL(resource), undefined, undefined, { ...options, ...plain })
    return { status: reply.status, body: await reply.json() }
  } catch (error) {
    if (!(error instanceof oauth.WWWAuthenticateChallengeError)) throw error
    return { status: error.status, challenges: error.cause }
  }
}

async function judged(token) {
  const reply = await oauth.introspectionRequest(server, api, oauth.ClientSecretBasic(secret), token, plain)
  return oauth.processIntrospectionResponse(server, api, reply)
}

async function validated(token) {
  const request = new Request(resource, { headers: { authorization: `Bearer ${token}` } })
  return oauth.validateJwtAccessToken(server, request, audience, plain)
}

const verbs = {
  refresh: ({ token, bound }) => refreshed(token, bound ? { DPoP } : {}),
  use: ({ token, bound }) => used(token, bound ? { DPoP } : {}),
  introspect: ({ token }) => judged(token),
  validate: ({ token }) => validated(token),
  async revoke({ token }) {
    await oauth.processRevocationResponse(await oauth.revocationRequest(server, app, oauth.None(), token, plain))
    return {}
  },
}

for (;;) {
  const asked = await told().catch(() => null)
  if (asked === null) break
  try {
    tell(await verbs[asked.verb](asked))
  } catch (error) {
    tell({ failed: `${error}: ${error.cause}` })
  }
}
process.exit(0)
