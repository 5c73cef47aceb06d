"""The documents that clients read: what the OpenAPI page shows and what the tests hold every answer to."""

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class _Document(BaseModel):
    model_config = ConfigDict(extra="forbid", populate_by_name=True)


class ClassProbability(_Document):
    """One class and its probability."""

    class_name: str = Field(alias="class", description="Name of the class")
    index: int = Field(description="Position of the class in the network's output")
    probability: float = Field(ge=0, le=1, description="Softmax of the logits, divided by the temperature")
    id: str | None = Field(None, description="The owner's id of the class, where the bundle has one")
    parents: list[str] | None = Field(
        None, description="What the class belongs to, where the bundle says, nearest first"
    )


class ModelName(_Document):
    """Which model answered."""

    name: str
    version: str


class OutOfDistribution(_Document):
    """Why the image was accepted or rejected."""

    scorer: str = Field(description="The score that decides")
    score: float = Field(description="Higher is more in-distribution")
    threshold: float = Field(description="The image is rejected when its score lies below")
    p_value: float = Field(gt=0, le=1, description="Share of in-distribution images with a score as low as this one")
    w: float | None = Field(description="Weight of the other score against NAP, where the scorer combines two")
    terms: dict[str, float] = Field(description="The scores that went into the score")


class Timing(_Document):
    """Where the time went, in milliseconds."""

    decode: float
    queue: float
    forward: float
    total: float


class Prediction(_Document):
    """The answer for one image."""

    id: str = Field(description="The request's id; in a batch followed by the file's position")
    model: ModelName
    predictions: list[ClassProbability] = Field(description="The most probable classes, most probable first")
    decision: Literal["accept", "reject"]
    ood: OutOfDistribution
    timing_ms: Timing


class Problem(_Document):
    """Why there is no prediction (RFC 9457)."""

    type: str = Field(description="URI of the kind of problem")
    title: str
    status: int = Field(description="HTTP status")
    detail: str = Field(description="What was wrong, what was expected, what to do")
    code: str = Field(description="Stable name of the kind of problem")
    request_id: str


class BatchPrediction(_Document):
    """The answers for the files of a batch, in their order."""

    results: list[Prediction | Problem]


class PreprocessingDescription(_Document):
    """What happens to a picture before the network sees it."""

    resize: int | tuple[int, int] = Field(description="Shorter side after resizing, or height and width, pixels")
    crop: tuple[int, int] = Field(description="Height and width of the centre crop, pixels")
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


class GuaranteeDescription(_Document):
    """What the threshold promises about images like those of the calibration."""

    kind: Literal["pac", "marginal"]
    alpha: float = Field(description="Target share of in-distribution images that are rejected")
    delta: float | None = Field(description="Probability that a PAC threshold misses its target")
    images: int = Field(description="Calibration images")
    rank: int = Field(description="The threshold is this order statistic of the calibration scores")


class ModelDescription(_Document):
    """What a model is."""

    name: str
    version: str
    classes: list[str]
    class_ids: list[str] | None = Field(None, description="The owner's ids of the classes, where the bundle has them")
    parents: dict[str, str] | None = Field(None, description="What a name belongs to, where the bundle has a hierarchy")
    preprocessing: PreprocessingDescription
    engine: str = Field(description="What runs the network's file")
    notices: list[str] = Field(description="What the export had to warn of")
    scorer: str
    w: float | None
    threshold: float
    temperature: float = Field(gt=0, description="Divides the logits before probabilities are taken")
    guarantee: GuaranteeDescription
    device: str
    precision: str
    measures: dict[str, object] = Field(description="Accuracy, FPR95 and AUROC as measured, in percent")


class ModelStatus(_Document):
    """Whether a model answers."""

    name: str
    version: str | None = Field(description="Null where the manifest cannot be read")
    state: Literal["ready", "loading", "unavailable", "unloaded"]
    default: bool = Field(description="Whether it answers where no model is named")
    reason: str | None = Field(description="Why it is unavailable")


class DriftSignal(_Document):
    """Evidence of drift of one kind."""

    evidence: float = Field(description="log10 of how much likelier the rejections are under drift")
    raised: bool = Field(description="Whether the evidence has ever passed its limit")


class DriftStatus(_Document):
    """What the drift alarm of a model has seen since its last reset."""

    name: str
    version: str
    horizons: dict[str, DriftSignal] = Field(description="Of all images (long), and of those since some time (short)")
    classes: dict[str, DriftSignal] = Field(description="Within each predicted class that is watched and was seen")
    uncounted: int = Field(description="Images left out because their client had sent more than it may add")


class ModelList(_Document):
    """Every model that the service knows."""

    models: list[ModelStatus]


class Health(_Document):
    """That the process lives, or that it can predict."""

    status: Literal["ok"]
