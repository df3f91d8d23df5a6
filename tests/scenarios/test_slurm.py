"""A batch on a Slurm cluster of one node, which the test starts from Debian's packages.

`apt-get install slurm-wlm munge`, as root and without systemd. The daemons get folders of their own
and are stopped by their process ids.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

PROFILE = Path(__file__).resolve().parents[2] / "workflow" / "profiles" / "slurm" / "config.yaml"
LINK = Path("/etc/slurm/slurm.conf")  # Snakemake drops SLURM_CONF for the steps of its jobs
TOOLS = ("munged", "slurmctld", "slurmd", "sbatch", "squeue")
CONF = """
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmdPort={other}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
MinJobAge=300
MpiDefault=none
NodeName={host} NodeAddr=127.0.0.1 CPUs=2 RealMemory=4000 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP
"""


def _why_not() -> str | None:
    path = f"{os.environ.get('PATH', '')}:/usr/sbin"
    missing = [tool for tool in TOOLS if shutil.which(tool, path=path) is None]
    if missing:
        return f"{', '.join(missing)} missing: apt-get install slurm-wlm munge"
    if os.geteuid() != 0:
        return "the daemons of Slurm are started as root"
    if LINK.exists():
        return f"this machine has a Slurm of its own ({LINK})"
    return None


@pytest.fixture
def cluster(tmp_path_factory):
    """Start a controller and a node; return the environment of its users."""
    if why := _why_not():
        pytest.skip(why)
    folder = tmp_path_factory.mktemp("slurm")
    (folder / "munge").mkdir(mode=0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    with socket.socket() as one, socket.socket() as two:
        for free in (one, two):
            free.bind(("127.0.0.1", 0))
        port, other = one.getsockname()[1], two.getsockname()[1]
    host = socket.gethostname().partition(".")[0]
    conf = folder / "slurm.conf"
    conf.write_text(CONF.format(host=host, folder=folder, port=port, other=other))
    key = folder / "munge" / "key"
    key.write_bytes(secrets.token_bytes(1024))
    key.chmod(0o400)
    environment = {**os.environ, "SLURM_CONF": str(conf)}
    environment["PATH"] = f"{environment['PATH']}:/usr/sbin"
    munge = [f"--{n}-file={folder}/munge/{n}" for n in ("key", "pid", "log", "seed")]
    munge = ["munged", "--force", f"--socket={folder}/munge/socket", *munge]
    pids = [folder / "slurmd.pid", folder / "slurmctld.pid", folder / "munge" / "pid"]
    linked = False
    try:
        for command in (munge, ["slurmctld", "-f", conf], ["slurmd", "-f", conf, "-N", host]):
            subprocess.run(command, env=environment, check=True, timeout=30)
        LINK.parent.mkdir(parents=True, exist_ok=True)
        LINK.symlink_to(conf)
        linked = True
        for _ in range(60):
            words = ["sinfo", "--noheader", "--format=%t"]
            state = subprocess.run(words, env=environment, capture_output=True, text=True).stdout
            if state.strip() == "idle":
                break
            time.sleep(0.5)
        else:
            pytest.fail(f"the node is {state!r}: {(folder / 'slurmctld.log').read_text()[-2000:]}")
        yield environment
        subprocess.run(["scancel", "--user=root"], env=environment, check=False, timeout=30)
        time.sleep(1)
    finally:
        if linked:
            LINK.unlink()
        for pid in pids:
            with contextlib.suppress(OSError, ValueError):
                os.kill(int(pid.read_text()), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_batch_runs_on_slurm_and_goes_on_after_a_kill(cluster, tmp_path):
    pytest.importorskip("snakemake_executor_plugin_slurm", reason="needs the extra batch")
    profile = yaml.safe_load(PROFILE.read_text())
    profile |= {"slurm-status-command": "squeue", "latency-wait": 5}
    profile |= {"slurm-init-seconds-before-status-checks": 2, "seconds-between-status-checks": 2}
    profile["default-resources"] |= {"mem_mb": 1000, "slurm_partition": "main"}
    (tmp_path / "profile").mkdir()
    (tmp_path / "profile" / "config.yaml").write_text(yaml.safe_dump(profile))
    experiment, store = tmp_path / "grid.yaml", tmp_path / "store"
    experiment.write_text(
        "fixed: {dataset: planted, epochs: 2, hidden_size: 16, d_H: 16, d_P: 8, d_state: 4, "
        "n_layers: 1}\ngrid: {learning_rate: [0.01, 1.0e+9]}\nseeds: [0, 1]\n"
    )
    words = [sys.executable, "-m", "ss4rec_lib.cli", "batch", experiment, "--out", store]
    words += ["--profile", tmp_path / "profile", "--jobs", "2", "--cores", "1"]
    how = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "env": cluster}

    def records():
        return {path: path.stat().st_mtime_ns for path in store.glob("jobs/*/record.json")}

    first = subprocess.Popen([str(word) for word in words], **how)
    end = time.monotonic() + 300
    while not records():
        assert first.poll() is None and time.monotonic() < end, (
            first.kill(),
            first.communicate()[0],
            (store / "grid" / "snakemake.log").read_text()[-3000:],
        )
        time.sleep(0.2)
    first.send_signal(signal.SIGKILL)
    first.communicate()
    kept = records()
    again = subprocess.run([str(word) for word in words], timeout=500, check=False, **how)
    log = (store / "grid" / "snakemake.log").read_text()
    assert again.returncode == 1, (again.stdout, log[-3000:])
    found = records()
    assert len(found) == 2
    assert {path: found[path] for path in kept} == kept, "a finished job was run again"
    assert again.stdout.count("diverged") >= 2, again.stdout
    assert "2 of 4 runs have a record" in again.stdout
    assert "SLURM" in log.upper()
