"""Reports: the documents that travel between tasks, and the pages made of them."""
