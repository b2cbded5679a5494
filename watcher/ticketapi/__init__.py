"""The Ticket System API (Workorder 2021-06-10): the only place that knows the vendor's field names."""
