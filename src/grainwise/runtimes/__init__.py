"""Who does it for real: the driver that feeds the controller, and a folder per platform."""
