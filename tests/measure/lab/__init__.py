"""What the measurements of the fleet share: processes that end with the script, real nodes and servers, watching clients, reports."""
