"""What all models of a service use together."""

import asyncio
from concurrent.futures import Executor, ThreadPoolExecutor

from oodgate.api.keeping import Keeping
from oodgate.observability.metrics import Metrics
from oodgate.settings import Settings


class Facilities:
    """Settings, metrics, the threads that decode, and the quarantine where there is one."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        """Start the threads; raises QuarantineError where the quarantine cannot be opened."""
        self.settings = settings
        self.metrics = metrics
        self.decoders: Executor = ThreadPoolExecutor(settings.decode_threads, thread_name_prefix="oodgate-decode")
        self.keeping = Keeping(settings, metrics) if settings.quarantine else None

    async def close(self) -> None:
        """End the threads, when no model uses them any more."""
        await asyncio.to_thread(self.decoders.shutdown, cancel_futures=True)
        if self.keeping:
            await asyncio.to_thread(self.keeping.close)
