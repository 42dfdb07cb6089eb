def before_after_table(s): return str(s["gain"])
def write_report(d): return d
