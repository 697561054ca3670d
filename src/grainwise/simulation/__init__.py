"""What if time were free? The product's controller in virtual time over a world that pretends. It holds no policy."""
