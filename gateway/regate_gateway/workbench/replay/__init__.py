"""`regate policy replay` and `shadow`: what a candidate would change, on recorded and on live questions."""
