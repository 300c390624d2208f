"""Human rating: people compare the answers of models, blind, on a local page; every vote is kept, and what comes out has its certainty."""
