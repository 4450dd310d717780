"""Demo traffic: two simulated editors, incoming submissions and the page visits that show the editors' presence."""
