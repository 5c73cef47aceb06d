"""The documents of the Open Inference Protocol, version 2, as this service reads and writes them."""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StrictBool, StrictInt

DataType = Literal["BYTES", "UINT8", "FP32", "BOOL"]
OutputName = Literal["class", "probability", "ood_score", "p_value", "accept"]


class _Document(BaseModel):
    model_config = ConfigDict(extra="ignore")


class InputParameters(_Document):
    """Others are tolerated."""

    binary_data_size: Annotated[int, Field(strict=True, ge=0)] | None = Field(
        None, description="Bytes of the tensor, which follow the JSON"
    )


class InputTensor(_Document):
    """Image files, or pixels (N, H, W, 3)."""

    name: Literal["image", "pixels"]
    datatype: Literal["BYTES", "UINT8", "FP32"]
    shape: list[Annotated[StrictInt, Field(ge=1)]] = Field(min_length=1, max_length=4)
    parameters: InputParameters = InputParameters()
    data: Any = Field(None, description="Numbers, nested or flat; strings in base64 for BYTES")


class OutputParameters(_Document):
    """Others are tolerated."""

    binary_data: StrictBool | None = Field(None, description="Whether the tensor follows the JSON as bytes")


class RequestedOutput(_Document):
    """An output that the client wants."""

    name: OutputName
    parameters: OutputParameters = OutputParameters()


class RequestParameters(_Document):
    """Others are tolerated."""

    binary_data_output: StrictBool = Field(False, description="Whether outputs that do not say are sent as bytes")


class InferenceRequest(_Document):
    """The JSON of a request."""

    id: str | None = Field(None, description="Comes back with the answer")
    parameters: RequestParameters = RequestParameters()
    inputs: list[InputTensor] = Field(min_length=1, max_length=1)
    outputs: list[RequestedOutput] = Field([], description="All where none is named")


class OutputTensor(_Document):
    """One value for each image."""

    name: OutputName
    datatype: DataType
    shape: list[int]
    parameters: dict[str, int] | None = Field(None, description="binary_data_size where the tensor follows as bytes")
    data: list[str | float | bool] | None = None


class InferenceResponse(_Document):
    """The JSON of an answer."""

    model_name: str
    model_version: str
    id: str | None = None
    outputs: list[OutputTensor]


class InferenceError(_Document):
    """Why there is no answer."""

    error: str


class ServerMetadata(_Document):
    """What serves."""

    name: str
    version: str
    extensions: list[str]


class ServerLive(_Document):
    """That the process lives."""

    live: bool


class ServerReady(_Document):
    """That the default model answers."""

    ready: bool


class ModelReady(_Document):
    """That a model answers."""

    name: str
    ready: bool


class TensorMetadata(_Document):
    """A tensor; -1 stands for any length."""

    name: str
    datatype: DataType
    shape: list[int]


class ModelMetadata(_Document):
    """What a model takes and gives."""

    name: str
    versions: list[str]
    platform: str
    inputs: list[TensorMetadata]
    outputs: list[TensorMetadata]
