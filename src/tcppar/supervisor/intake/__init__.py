"""How clients come in: listeners, and who accepts from them."""
