"""What the official Python client and kr8s do inside of a pod: programs, logs, ports."""

import io
import sys

import kr8s
from kr8s.objects import Pod
from kubernetes import client, config, watch
from kubernetes.stream import portforward, stream

from objects import eventually

KUBECONFIG, NAMESPACE, POD = sys.argv[1:]
PORT = 8080


def official():
    config.load_kube_config(KUBECONFIG)
    core = client.CoreV1Api()
    run = lambda command, **options: stream(  # noqa: E731
        core.connect_get_namespaced_pod_exec, POD, NAMESPACE, command=command, stdout=True, stderr=True, **options
    )
    assert run(["cat", "/etc/hostname"]).strip(), "a program's output as one text"
    ended = run(["bash", "-c", "echo out; echo err >&2; exit 7"], _preload_content=False)
    ended.run_forever(timeout=60)
    assert ended.subprotocol == "v5.channel.k8s.io", ended.subprotocol
    assert (ended.read_stdout(), ended.read_stderr(), ended.returncode) == ("out\n", "err\n", 7)
    # With input, which version 5 of the protocol can end.
    sorted_ = run(["sort"], stdin=True, _preload_content=False)
    sorted_.write_stdin("b\na\n")
    sorted_.close_channel(0)
    sorted_.run_forever(timeout=60)
    assert (sorted_.read_stdout(), sorted_.returncode) == ("a\nb\n", 0)
    shell = run(["bash"], stdin=True, tty=True, _preload_content=False)
    shell.write_stdin("test -t 0 && echo in a $((1 + 1))-way terminal\nexit 3\n")
    shell.run_forever(timeout=60)
    assert "in a 2-way terminal" in shell.read_stdout() and shell.returncode == 3

    forward = portforward(core.connect_get_namespaced_pod_portforward, POD, NAMESPACE, ports=str(PORT))
    socket = forward.socket(PORT)
    socket.setblocking(True)
    socket.settimeout(60)
    socket.sendall(b"GET /debian_version?seen=by-python HTTP/1.0\r\n\r\n")
    answer = b""
    while part := socket.recv(4096):
        answer += part
    assert answer.startswith(b"HTTP/1.0 200") and forward.error(PORT) is None, answer
    eventually("the log", lambda: "seen=by-python" in core.read_namespaced_pod_log(POD, NAMESPACE, tail_lines=50))
    assert len(core.read_namespaced_pod_log(POD, NAMESPACE, tail_lines=1).splitlines()) == 1
    for line in watch.Watch().stream(core.read_namespaced_pod_log, POD, NAMESPACE, follow=True):
        if "seen=by-python" in line:
            break


def with_kr8s():
    """It speaks version 4 of the protocol, which cannot end a program's input."""
    api = kr8s.api(kubeconfig=KUBECONFIG)
    pod = Pod.get(POD, namespace=NAMESPACE, api=api)
    assert pod.ready()
    done = pod.exec(["bash", "-c", "echo out; echo err >&2; exit 7"], check=False)
    assert (done.stdout, done.stderr, done.returncode) == (b"out\n", b"err\n", 7)
    large = io.BytesIO()
    pod.exec(["head", "-c", "3000000", "/dev/zero"], stdout=large, capture_output=False)
    assert large.getvalue() == bytes(3_000_000)
    assert any("seen=by-python" in line for line in pod.logs(tail_lines=100))
    with pod.portforward(PORT, local_port="auto") as port:
        import httpx

        for _ in range(3):
            answer = httpx.get(f"http://127.0.0.1:{port}/debian_version", timeout=60, trust_env=False)
            assert answer.status_code == 200, answer


official()
with_kr8s()
print("streams: all is well")
