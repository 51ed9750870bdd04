"""What a report is made of: sentences, tables, pictures, and the page that holds them."""
