"""Other people's weight files to our parameter trees."""
