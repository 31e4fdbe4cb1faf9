"""Making adapters: training, the graph, the release. Nothing on the serving path imports it."""
