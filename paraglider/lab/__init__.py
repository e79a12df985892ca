"""Throwaway hosts and real traffic: for the demo, the tests and the bench."""
