"""The policies at the top of the repository are the package guardproxy.policies; all else is in pyproject.toml."""

from setuptools import find_packages, setup

setup(
    packages=[*find_packages(include=["guardproxy", "guardproxy.*"]), "guardproxy.policies"],
    package_dir={"guardproxy.policies": "policies"},
)
