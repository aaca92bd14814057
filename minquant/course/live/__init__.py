"""Pictures that move: controls, and the dashboard that shows them."""
