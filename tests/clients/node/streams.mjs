// What the official JavaScript client does inside of a pod: programs, logs, ports, files.
import assert from 'node:assert/strict';
import { createRequire } from 'node:module';
import { PassThrough, Readable, Writable } from 'node:stream';

// Its packages lie in a folder of their own, outside of the checkout.
const require = createRequire(`${process.env.BERTH_NODE_CLIENTS}/package.json`);
const k8s = await import(require.resolve('@kubernetes/client-node'));

const [file, namespace, pod] = process.argv.slice(2);
const container = 'web';
const config = new k8s.KubeConfig();
config.loadFromFile(file);

// A stream that keeps what is written into it, and says when that has some text in it.
const sink = () => {
  const parts = [];
  const stream = new Writable({
    write(part, _, done) {
      parts.push(part);
      stream.emit('more');
      done();
    },
  });
  stream.text = () => Buffer.concat(parts).toString();
  stream.has = async (text) => {
    while (!stream.text().includes(text)) await new Promise((resolve) => stream.once('more', resolve));
  };
  return stream;
};

const exec = new k8s.Exec(config);
const run = async (command, input = null, tty = false) => {
  const [out, err] = [sink(), sink()];
  const status = await new Promise((resolve, reject) => {
    exec.exec(namespace, pod, container, command, out, err, input, tty, resolve).catch(reject);
  });
  return { out: out.text(), err: err.text(), status };
};

const failed = await run(['bash', '-c', 'echo out; echo err >&2; exit 7']);
assert.deepEqual([failed.out, failed.err, failed.status.status], ['out\n', 'err\n', 'Failure']);
assert.deepEqual(failed.status.details.causes, [{ reason: 'ExitCode', message: '7' }]);
const sorted = await run(['sort'], Readable.from(['b\n', 'a\n']));
assert.deepEqual([sorted.out, sorted.status.status], ['a\nb\n', 'Success']);
const terminal = await run(['bash', '-c', 'test -t 0 && echo in a terminal'], new PassThrough(), true);
assert.match(terminal.out, /in a terminal/);

// A request through a forwarded port, seen by one who is attached and by one who follows the log.
const [attached, followed, answer] = [sink(), sink(), sink()];
const attachment = await new k8s.Attach(config).attach(namespace, pod, container, attached, attached, null, false);
const following = await new k8s.Log(config).log(namespace, pod, container, followed, { follow: true });
const request = 'GET /debian_version?seen=by-node HTTP/1.0\r\n\r\n';
// Attaching has begun when the first output comes; until then requests are repeated.
const asking = setInterval(() => {
  // An input that ends would end the connection before the answer.
  const input = new PassThrough();
  input.write(request);
  new k8s.PortForward(config).portForward(namespace, pod, [8080], answer, null, input).catch(() => {});
}, 500);
await Promise.all([attached.has('seen=by-node'), followed.has('seen=by-node'), answer.has('HTTP/1.0 200')]);
clearInterval(asking);
attachment.close();
following.abort();
console.log('streams: all is well');
process.exit(0);
