// A certified OpenID provider, and somebody who signs in at it with a browser. It takes a command a line, `login NAME` or
// `rotate`, and answers each with a line: the ID token, or what became of it.
import { readFileSync } from 'node:fs';
import { generateKeyPairSync } from 'node:crypto';
import { createServer } from 'node:https';
import { createInterface } from 'node:readline';
import { createRequire } from 'node:module';

// Its packages lie in a folder of their own, outside of the checkout.
const require = createRequire(`${process.env.BERTH_NODE_CLIENTS}/package.json`);
const { Provider } = await import(require.resolve('oidc-provider'));

const [port, cert, key] = process.argv.slice(2);
const issuer = `https://127.0.0.1:${port}`;
const redirectUri = 'https://client.example.test/callback';
const groups = { ann: ['dev', 'ops'], eve: ['system:masters'] };

let number = 0;
const provider = () => {
  number += 1;
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  const jwk = { ...privateKey.export({ format: 'jwk' }), kid: `key-${number}`, use: 'sig', alg: 'RS256' };
  return new Provider(issuer, {
    clients: [{ client_id: 'berth', client_secret: 'of the test', redirect_uris: [redirectUri] }],
    claims: { openid: ['sub'], email: ['email', 'email_verified'], groups: ['groups'] },
    // So that what Kubernetes reads is in the ID token itself.
    conformIdTokenClaims: false,
    cookies: { keys: ['of the test'] },
    findAccount: (_ctx, id) => ({
      accountId: id,
      claims: () => ({ sub: id, email: `${id}@example.com`, email_verified: id !== 'bob', groups: groups[id] ?? [] }),
    }),
    jwks: { keys: [jwk] },
    pkce: { required: () => false },
  });
};

let current = provider();
const server = createServer({ cert: readFileSync(cert), key: readFileSync(key) }, (request, response) =>
  current.callback()(request, response),
);

// A browser: it keeps cookies, follows redirects, and fills in the forms that it is shown.
const signIn = async (name) => {
  const cookies = new Map();
  const visit = async (address, form) => {
    const response = await fetch(address, {
      method: form ? 'POST' : 'GET',
      body: form && new URLSearchParams(form),
      headers: { cookie: [...cookies].map(([cookie, value]) => `${cookie}=${value}`).join('; ') },
      redirect: 'manual',
    });
    for (const cookie of response.headers.getSetCookie()) {
      const [pair] = cookie.split(';');
      const at = pair.indexOf('=');
      cookies.set(pair.slice(0, at), pair.slice(at + 1));
    }
    return response;
  };
  const query = { client_id: 'berth', redirect_uri: redirectUri, response_type: 'code', scope: 'openid email groups' };
  let address = `${issuer}/auth?${new URLSearchParams(query)}`;
  let response = await visit(address);
  for (let step = 0; step < 20; step += 1) {
    if (response.status >= 300 && response.status < 400) {
      address = new URL(response.headers.get('location'), address).href;
      if (address.startsWith(redirectUri)) break;
      response = await visit(address);
    } else if (response.status === 200) {
      const page = await response.text();
      const form = page.includes('name="login"') ? { prompt: 'login', login: name, password: 'x' } : { prompt: 'consent' };
      response = await visit(address, form);
    } else {
      throw new Error(`${address}: ${response.status} ${await response.text()}`);
    }
  }
  const code = new URL(address).searchParams.get('code');
  const answer = await fetch(`${issuer}/token`, {
    method: 'POST',
    body: new URLSearchParams({ grant_type: 'authorization_code', code, redirect_uri: redirectUri }),
    headers: { authorization: `Basic ${Buffer.from('berth:of%20the%20test').toString('base64')}` },
  });
  const tokens = await answer.json();
  if (!tokens.id_token) throw new Error(JSON.stringify(tokens));
  return tokens.id_token;
};

server.listen(Number(port), '127.0.0.1', () => console.log('ready'));
for await (const line of createInterface({ input: process.stdin })) {
  const [command, name] = line.split(' ');
  if (command === 'rotate') {
    current = provider();
    console.log('rotated');
  } else {
    console.log(await signIn(name));
  }
}
server.closeAllConnections();
server.close();
