"""Reports on models that are no cascades: bounds on the likelihood of a VAE, what its blocks do, accuracy."""

from wavdiff.evaluation.families.reports import INSPECTED, inspect_family, run_family_evaluation
from wavdiff.evaluation.families.request import FamilyRequest

__all__ = ["INSPECTED", "FamilyRequest", "inspect_family", "run_family_evaluation"]
