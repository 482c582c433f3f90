"""Reports on models that are no cascades: bounds on the likelihood of a VAE, what its blocks do, accuracy."""

from wavdiff.evaluation.families.request import FamilyRequest
from wavdiff.evaluation.families.running import INSPECTED, inspect_family, run_family_evaluation

__all__ = ["INSPECTED", "FamilyRequest", "inspect_family", "run_family_evaluation"]
