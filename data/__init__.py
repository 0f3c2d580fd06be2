"""Where crops come from and where they go: readers, crop table, tf.data, embedding
sets, contact sheets.
"""
