"""From a record to one self-contained HTML page: plain data first, then markup."""
