"""The durable memory of runs: the contract, and one SQL implementation."""

from allready.store.open import StoreMissing as StoreMissing
from allready.store.open import open_store as open_store
from allready.store.open import upgrade as upgrade
