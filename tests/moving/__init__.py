"""The moving drill: sessions move between real stores while people use them, and the mover is killed on the way."""
