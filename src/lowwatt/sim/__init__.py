"""Simulation of a Program: its integers and its costs from one place."""

from lowwatt.sim.simulate import Simulation, simulate

__all__ = ["Simulation", "simulate"]
