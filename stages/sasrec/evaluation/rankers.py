"""Everything that ranks: the network, the hybrid and the baselines."""

from sasrec.evaluation import hybrid, model_scorer
from sasrec.evaluation.baselines import BASELINES
from sasrec.evaluation.ranking import Scorer
from sasrec.model.sasrec import HybridWeights, Sasrec
from sasrec.runtime.world import World
from sasrec.split.datasets import TrainingSet


def scorers(
    model: Sasrec, weights: HybridWeights, train: TrainingSet, world: World, *, padding: bool
) -> dict[str, Scorer]:
    """Return each ranker's scorer by the name that it has in the metrics."""
    by_model = model_scorer.by_model(model, world, padding=padding)
    by_all = hybrid.by_all(by_model, model, train.transitions, weights)
    return {"sasrec": by_model, "hybrid": by_all} | {name: baseline(train) for name, baseline in BASELINES.items()}
