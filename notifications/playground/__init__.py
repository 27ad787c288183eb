"""The page to try it all, `/try/`: a form that sends, the same call as a curl, and the bells of two people side by side.

It sends through intake, as the API does, and checks with the API's own serializer.
"""
