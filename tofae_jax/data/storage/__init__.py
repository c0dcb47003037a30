"""Write files and folders safely: completely or not at all, and never in place of what is not ours."""
