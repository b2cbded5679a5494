"""What makes a mail: the letter in words and in HTML, addresses, enclosed files, and the way to a mail server."""
