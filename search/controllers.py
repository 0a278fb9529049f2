"""Ray Train's controllers, one for each slot: started without what is not needed here, ended, and cleared up after.

All of it is Ray's own business (names with an underscore): Ray's version is pinned, and tests say when another one has
them under other names.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import ray
from ray.train import ScalingConfig
from ray.train.v2._internal.callbacks import DatasetsCallback
from ray.train.v2._internal.callbacks.placement_group_callback import PlacementGroupCleanerCallback
from ray.train.v2.api.data_parallel_trainer import DataParallelTrainer
from ray.util.placement_group import PlacementGroup, remove_placement_group

UNUSED = (DatasetsCallback, PlacementGroupCleanerCallback)


class SlotTrainer(DataParallelTrainer):
    """A Train run with two processes less. Its workers are torch's one group where there are several; a single one
    needs none, and neither its controller nor the driver then imports torch (120 MB and a CPU second each).

    Ray Data's manager serves nothing here. The cleaner of placement groups sees that a controller has died only where
    Ray has a dashboard; without one it stays for ever, and so do the groups. `free_groups` does its work.
    """

    def __init__(self, loop: Callable[[dict[str, Any]], None], *, scaling_config: ScalingConfig, **given: Any) -> None:
        if scaling_config.num_workers != 1:
            from ray.train.torch import TorchConfig

            given["backend_config"] = TorchConfig()
        super().__init__(loop, scaling_config=scaling_config, **given)

    def _create_default_callbacks(self) -> list[Any]:
        callbacks: list[Any] = super()._create_default_callbacks()
        return [callback for callback in callbacks if not isinstance(callback, UNUSED)]


def end_controllers() -> None:
    """Kills the controllers that this driver has started; Train tells of none of them."""
    from ray._private.state import state

    driver: Any = ray._private.worker.global_worker
    for actor, facts in state.actor_table(None, driver.current_job_id).items():
        if facts["ActorClassName"] == "TrainController" and facts["State"] != "DEAD":
            with suppress(ValueError):  # its thread has just ended
                driver.core_worker.kill_actor(ray.ActorID.from_hex(actor), True)


def free_groups() -> None:
    """Removes the placement groups of this driver's actors that have died: Ray keeps them, and all that they reserve,
    until the driver ends too."""
    from ray._private.state import state
    from ray.core.generated import gcs_pb2

    table: Any = gcs_pb2  # generated, without types
    row = table.PlacementGroupTableData
    mine = ray._private.worker.global_worker.current_job_id.binary()
    accessor = state._connect_and_get_accessor()
    for group in map(row.FromString, accessor.get_placement_group_table()):
        of_an_actor = not ray.ActorID(group.creator_actor_id).is_nil()  # Tune's are the driver's
        left = of_an_actor and group.creator_actor_dead and group.state != row.REMOVED
        if left and group.creator_job_id == mine:
            remove_placement_group(PlacementGroup(ray.PlacementGroupID(group.placement_group_id)))
