"""Audits: a plan carried out on one machine or many, and the summary of its results."""
