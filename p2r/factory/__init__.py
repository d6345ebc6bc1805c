"""Around the pipeline: quality filters, what may kill a run, clusters, judging a run, cards."""
