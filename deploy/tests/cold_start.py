"""How long a node takes from its start until it asks for its first event, and what it then holds.

    cold_start.py PROGRAM...     each 60 times, on this machine: not Lambda's own share of a cold start
"""

import socket
import statistics
import subprocess
import sys
import time

RUNS = 60


def once(program):
    """Milliseconds until the first request to the Runtime API, and resident KB at that time."""
    with socket.create_server(("127.0.0.1", 0)) as api:
        environment = {
            "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{api.getsockname()[1]}",
            "AWS_LAMBDA_FUNCTION_NAME": "node",
            "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
            "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "1536",
            "AWS_LAMBDA_LOG_GROUP_NAME": "group",
            "AWS_LAMBDA_LOG_STREAM_NAME": "stream",
            "MIMALLOC_PURGE_DELAY": "0",
        }
        begun = time.perf_counter()
        process = subprocess.Popen([program], env=environment)
        connection, _ = api.accept()
        assert connection.recv(1000).startswith(b"GET /2018-06-01/runtime/invocation/next")
        took = time.perf_counter() - begun
        with open(f"/proc/{process.pid}/status") as status:
            resident = next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))
        process.kill()
        process.wait()
        connection.close()
    return took * 1000, resident


for program in sys.argv[1:]:
    runs = [once(program) for _ in range(RUNS)]
    times = sorted(took for took, _ in runs)
    print(f"{program}: p50 {statistics.median(times):.1f} ms, worst {times[-1]:.1f} ms, "
          f"resident {statistics.median(kb for _, kb in runs):.0f} KB")
