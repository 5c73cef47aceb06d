"""What all models of a service use together."""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor

from oodgate.api.keeping import Keeping
from oodgate.cores import available_cores
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings


class Facilities:
    """Settings, metrics, the threads that decode, and the quarantine where there is one."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Start the threads; raises QuarantineError where the quarantine cannot be opened."""
        self.settings = settings
        self.metrics = metrics
        self._threads = settings.decode_threads or available_cores()
        self.decoders: Executor = ThreadPoolExecutor(self._threads, thread_name_prefix="oodgate-decode")
        self.keeping = Keeping(settings, metrics) if settings.quarantine else None

    def openers_of(self, workers: int) -> Executor | None:
        """What helps so many workers to open pictures; nothing where there is no more than a thread for each."""
        return self.decoders if self._threads > workers else None

    async def close(self) -> None:
        """End the threads, when no model uses them any more."""
        await asyncio.to_thread(self.decoders.shutdown, cancel_futures=True)
        if self.keeping:
            await asyncio.to_thread(self.keeping.close)
