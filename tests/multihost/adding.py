"""What the processes of these tests run: they join and sum over all devices, step after step.

It takes the flags of `alljax study` for several processes; without them the environment says what there is.
"""

import argparse
import sys
import time

from alljax.errors import ConfigError
from alljax.training import distributed


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--coordinator")
    parser.add_argument("--processes", type=int)
    parser.add_argument("--process", type=int)
    parser.add_argument("--steps", type=int, default=3)
    parser.add_argument("--fault", type=int, default=-1, help="the process that raises after half of the steps")
    parser.add_argument("--start_seconds", type=int, default=60)
    parser.add_argument("--heartbeat_seconds", type=int, default=6)
    options = parser.parse_args()
    distributed.START_SECONDS = options.start_seconds
    distributed.HEARTBEAT_SECONDS = options.heartbeat_seconds
    try:
        distributed.initialize(options.coordinator, options.processes, options.process)
    except ConfigError as error:
        print(f"alljax: {error}", file=sys.stderr)
        return distributed.exit(2)

    import jax
    import numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec

    mesh = jax.make_mesh((jax.device_count(),), ("data",), axis_types=(AxisType.Auto,))
    own = np.full((jax.local_device_count(),), jax.process_index() + 1.0, np.float32)
    spread = jax.make_array_from_process_local_data(NamedSharding(mesh, PartitionSpec("data")), own)
    add = jax.jit(lambda numbers: numbers.sum(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    for step in range(options.steps):
        total = float(add(spread))
        if jax.process_index() == options.fault and step == options.steps // 2:
            raise ValueError("a fault of this process alone")
        time.sleep(0.02)
    assert distributed.broadcast(jax.process_index() == 0)
    print(f"the sum over {jax.device_count()} devices of {jax.process_count()} processes is {total:g}", flush=True)
    print(f"process {jax.process_index()} has {jax.local_device_count()} of them", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
