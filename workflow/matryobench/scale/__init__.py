"""The evaluation at sizes for which there is no model at hand: fake vectors through the real search and metrics."""
