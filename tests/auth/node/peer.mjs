// Other people's JOSE: one JSON line in, one out. jose and dpop make and check; oidc-provider judges our proofs.
import { createInterface } from 'node:readline'
import { createServer } from 'node:http'
import * as DPoP from 'dpop'
import * as jose from 'jose'
import { Provider } from 'oidc-provider'

const verbs = {
  async verify({ token, jwks, issuer, audience, algorithms, typ, now }) {
    const keys = jose.createLocalJWKSet(jwks)
    const options = { issuer, audience, algorithms, typ, currentDate: new Date(now * 1000), requiredClaims: ['exp', 'sid'] }
    const { payload, protectedHeader } = await jose.jwtVerify(token, keys, options)
    return { payload, header: protectedHeader }
  },
  async sign({ alg, claims, typ }) {
    const { publicKey, privateKey } = await jose.generateKeyPair(alg, { extractable: true })
    const jwk = await jose.exportJWK(publicKey)
    const kid = await jose.calculateJwkThumbprint(jwk)
    const token = await new jose.SignJWT(claims).setProtectedHeader({ alg, kid, typ }).sign(privateKey)
    return { token, kid, jwks: { keys: [{ ...jwk, kid, alg, use: 'sig' }] } }
  },
  async thumbprint({ jwk }) {
    return { thumbprint: await jose.calculateJwkThumbprint(jwk) }
  },
  async proof({ alg, url, method, nonce, token }) {
    const pair = await DPoP.generateKeyPair(alg)
    const proof = await DPoP.generateProof(pair, url, method, nonce, token)
    return { proof, jkt: await DPoP.calculateThumbprint(pair.publicKey) }
  },
  async provider({ nonce }) {
    let origin
    const server = createServer((request, response) => handle(request, response))
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve))
    origin = `http://127.0.0.1:${server.address().port}`
    const provider = new Provider(origin, {
      clients: [{
        client_id: 'ours', client_secret: 'secret', redirect_uris: [], response_types: [],
        grant_types: ['client_credentials'], token_endpoint_auth_method: 'client_secret_post',
      }],
      enabledJWA: { dPoPSigningAlgValues: ['ES256', 'Ed25519', 'EdDSA', 'ML-DSA-44', 'ML-DSA-65'] },
      jwks: { keys: [await jose.exportJWK((await jose.generateKeyPair('RS256', { extractable: true })).privateKey)] },
      cookies: { keys: ['tests'] },
      features: {
        clientCredentials: { enabled: true },
        devInteractions: { enabled: false },
        dPoP: { enabled: true, nonceSecret: Buffer.alloc(32, 7), requireNonce: () => nonce },
      },
      findAccount: (_, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    })
    const listener = provider.callback()
    providers.set(origin, provider)
    function handle(request, response) { listener(request, response) }
    return { origin }
  },
  // A token of the provider for its userinfo, bound to our key.
  async mint({ origin, jkt }) {
    const provider = providers.get(origin)
    const client = await provider.Client.find('ours')
    const grant = new provider.Grant({ accountId: 'ada', clientId: 'ours' })
    grant.addOIDCScope('openid')
    const token = new provider.AccessToken({
      accountId: 'ada', client, grantId: await grant.save(), gty: 'authorization_code', scope: 'openid',
    })
    token.setThumbprint('jkt', jkt)
    return { token: await token.save() }
  },
}
const providers = new Map()
console.log = (...parts) => process.stderr.write(parts.join(' ') + '\n')
console.info = console.warn = console.log

for await (const line of createInterface({ input: process.stdin })) {
  const { verb, ...given } = JSON.parse(line)
  let answer
  try {
    answer = await verbs[verb](given)
  } catch (error) {
    answer = { error: error.code ?? error.name, message: error.message }
  }
  process.stdout.write(JSON.stringify(answer) + '\n')
}
process.exit(0)
