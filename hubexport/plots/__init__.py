"""Plots for web pages, which matplotlib draws: the site's charts, and the layer errors in a verification report."""
