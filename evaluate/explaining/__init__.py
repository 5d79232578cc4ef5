"""A method named, fitted, called under guard and held to its contract; one picture explained."""
