"""FastAPI as it is written first: a thread decodes and runs the network for one image; uvicorn's workers."""

import uvicorn
from fastapi import FastAPI, Request
from fastapi.concurrency import run_in_threadpool
from job import PORT, WORKERS, Network, decode

app = FastAPI()
network = None if __name__ == "__main__" else Network()  # the parent of the workers needs none


@app.post("/predict")
async def predict(request: Request) -> dict[str, float]:
    """The body is the image file."""
    return await run_in_threadpool(classify, await request.body())


def classify(data: bytes) -> dict[str, float]:
    """One image."""
    return network([decode(data)])[0]


if __name__ == "__main__":
    uvicorn.run("fastapi_plain:app", port=PORT, workers=WORKERS, access_log=False, loop="uvloop", http="httptools")
