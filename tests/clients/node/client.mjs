// The official JavaScript client: typed core kinds, custom objects, patches, watches, informers.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';

// Its packages lie in a folder of their own, outside of the checkout.
const require = createRequire(`${process.env.BERTH_NODE_CLIENTS}/package.json`);
const k8s = await import(require.resolve('@kubernetes/client-node'));

const [group, version, namespace] = ['berth.dev', 'v1alpha1', 'node-client'];
const plural = 'applications';

const application = (name, instances = 1, metadata = {}) => ({
  apiVersion: `${group}/${version}`,
  kind: 'Application',
  metadata: { name, namespace, ...metadata },
  spec: {
    source: { image: { reference: 'example.test/shop:1' } },
    plan: 'small',
    instances,
    running: false,
    start: { port: 8080 },
  },
});

const eventually = async (what, check) => {
  for (let attempt = 0; attempt < 600; attempt += 1) {
    const found = await check();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  throw new Error(`not in time: ${what}`);
};

const refused = async (code, reason, promise) => {
  const error = await promise.then(() => assert.fail('not refused'), (error) => error);
  assert.equal(error.code, code, String(error));
  const body = typeof error.body === 'string' ? JSON.parse(error.body) : error.body;
  assert.equal(body.reason, reason);
  return body;
};

const config = new k8s.KubeConfig();
config.loadFromFile(process.argv[2]);
const core = config.makeApiClient(k8s.CoreV1Api);
const custom = config.makeApiClient(k8s.CustomObjectsApi);
const where = { group, version, namespace, plural };

assert.equal((await config.makeApiClient(k8s.VersionApi).getCode()).major, '1');
await core.createNamespace({ body: { metadata: { name: namespace } } });

// Core kinds.
const secret = await core.createNamespacedSecret({ namespace, body: { metadata: { name: 'key' }, stringData: { a: 'b' } } });
assert.deepEqual(secret.data, { a: 'Yg==' });
await core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'settings' }, data: { a: '1' } } });
const patched = await core.patchNamespacedConfigMap(
  { namespace, name: 'settings', body: { data: { b: '2' } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.StrategicMergePatch),
);
assert.deepEqual(patched.data, { a: '1', b: '2' });
await refused(409, 'AlreadyExists', core.createNamespacedConfigMap({ namespace, body: { metadata: { name: 'settings' } } }));
await refused(404, 'NotFound', core.readNamespacedConfigMap({ namespace, name: 'missing' }));

// Custom objects.
const created = await custom.createNamespacedCustomObject({ ...where, body: application('shop') });
assert.equal(created.metadata.generation, 1);
const replaced = await custom.patchNamespacedCustomObject({
  ...where,
  name: 'shop',
  body: [{ op: 'replace', path: '/spec/instances', value: 2 }],
});
assert.equal(replaced.spec.instances, 2, 'a JSON patch is what this client sends');
const merged = await custom.patchNamespacedCustomObject(
  { ...where, name: 'shop', body: { spec: { instances: 3 } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
assert.equal(merged.spec.instances, 3);
const invalid = await refused(422, 'Invalid', custom.createNamespacedCustomObject({ ...where, body: application('bad', -1) }));
assert.ok(invalid.details.causes.some((cause) => cause.field === 'spec.instances'));

// Objects of any kind, found by discovery.
const objects = k8s.KubernetesObjectApi.makeApiClient(config);
await objects.create(application('second'));
const read = await objects.read({ apiVersion: `${group}/${version}`, kind: 'Application', metadata: { name: 'second', namespace } });
assert.equal(read.spec.plan, 'small');
const listed = await objects.list(`${group}/${version}`, 'Application', namespace);
assert.deepEqual(listed.items.map((item) => item.metadata.name), ['second', 'shop']);

// A watch.
const watch = new k8s.Watch(config);
const events = [];
const controller = await watch.watch(
  `/apis/${group}/${version}/namespaces/${namespace}/${plural}`,
  { resourceVersion: listed.metadata.resourceVersion },
  (type, object) => events.push(`${type} ${object.metadata.name}`),
  () => {},
);
await objects.create(application('third'));
await eventually('the event', () => events.includes('ADDED third'));
assert.ok(!events.includes('ADDED shop'), 'what was there before is not told again');
controller.abort();

// An informer: what there is, then what changes.
const list = () => custom.listNamespacedCustomObject(where);
const informer = k8s.makeInformer(config, `/apis/${group}/${version}/namespaces/${namespace}/${plural}`, list);
const cache = new Map();
informer.on('add', (object) => cache.set(object.metadata.name, object));
informer.on('update', (object) => cache.set(object.metadata.name, object));
informer.on('delete', (object) => cache.delete(object.metadata.name));
let stopping = false;
informer.on('error', (error) => {
  if (!stopping) throw error;
});
await informer.start();
await eventually('the list', () => cache.size === 3);
await custom.patchNamespacedCustomObject(
  { ...where, name: 'third', body: { spec: { instances: 7 } } },
  k8s.setHeaderOptions('Content-Type', k8s.PatchStrategy.MergePatch),
);
await eventually('the update', () => cache.get('third').spec.instances === 7);
await custom.deleteNamespacedCustomObject({ ...where, name: 'third' });
await eventually('the deletion', () => !cache.has('third'));
assert.equal(informer.get('shop', namespace).spec.instances, 3);
stopping = true;
await informer.stop();

// Server-side apply: it makes what is not there, and asks before it takes a field from somebody else.
const apply = (instances, manager, force) =>
  objects.patch(application('applied', instances), undefined, undefined, manager, force, k8s.PatchStrategy.ServerSideApply);
const applied = await apply(1, 'one', false);
assert.deepEqual([applied.metadata.managedFields[0].manager, applied.metadata.managedFields[0].operation], ['one', 'Apply']);
const conflict = await refused(409, 'Conflict', apply(2, 'two', false));
assert.match(conflict.message, /conflict with "one": \.spec\.instances/);
assert.equal((await apply(2, 'two', true)).spec.instances, 2);
await custom.deleteNamespacedCustomObject({ ...where, name: 'applied' });

// Another credential, and the end.
const stranger = new k8s.KubeConfig();
stranger.loadFromFile(process.argv[2]);
stranger.users[0].token = 'wrong';
const unknown = await stranger.makeApiClient(k8s.CoreV1Api).listNamespace().catch((error) => error);
assert.equal(unknown.code, 401);
await core.deleteNamespace({ name: namespace });
await eventually('the namespace is gone', async () =>
  core.readNamespace({ name: namespace }).then(() => false, (error) => error.code === 404),
);
console.log('client-node: all is well');
process.exit(0);
