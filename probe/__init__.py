"""NumPy and scikit-learn only, never TensorFlow: search, linear probe, relevance
feedback, metrics.
"""
