"""Whole networks beside their peers, and kernels beside the machine's limits: what ``nbconv bench`` runs."""
