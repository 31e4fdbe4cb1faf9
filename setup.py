"""The policies and adapters at the top of the repository are packages of guardproxy; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["guardproxy", "guardproxy.*"]), "guardproxy.policies", "guardproxy.adapters"],
    package_dir={"guardproxy.policies": "policies", "guardproxy.adapters": "adapters"},
)
